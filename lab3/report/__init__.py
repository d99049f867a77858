"""The lab report: content, pages, PDF."""
