"""`dheads data stats`: stats.py gathers the numbers and is read first; page.py, overview.py and table.py show them."""
