"""The grid: many audits of one kind, cell by cell, and the table, the curves and the findings that come of them."""
