"""HTTP at the edge of the relay: host names, heads, bodies and pages."""
