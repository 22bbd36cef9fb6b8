"""One small file for each library that is measured, and one function in it: `prepared(job)`."""
