"""What makes the site from the pages of docs/, and the pages that come from code."""
