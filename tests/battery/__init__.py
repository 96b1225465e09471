"""The fault battery: real programs, a path that fails in every way, and books that must balance."""
