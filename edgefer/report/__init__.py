"""Reports: what a network on the edge costs against its baseline, as a table and as JSON."""
