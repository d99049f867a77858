"""The explorer as one page that computes in the browser."""
