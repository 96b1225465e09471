"""Tests, laid out as the packages are; programs/ runs the real ones."""
