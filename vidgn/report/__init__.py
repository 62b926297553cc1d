"""A page with curves and tables of finished runs."""
