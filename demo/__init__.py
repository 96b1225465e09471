"""Shows the suite at work on one machine: ``make demo``."""
