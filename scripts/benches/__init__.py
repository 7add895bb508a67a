"""The rows of `make bench`, a module for each subject. A module has `rows(bench)`, which gives its rows in order."""
