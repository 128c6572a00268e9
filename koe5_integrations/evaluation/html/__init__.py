"""Parts of the HTML report: its words, table, plots and per-query data, and the page's assets."""
