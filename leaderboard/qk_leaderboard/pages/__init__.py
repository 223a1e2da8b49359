"""One module per page. Each writes its page, or nothing where there is nothing to show."""
