"""Published statements under test: claim files, what runs measure of them, and verdicts."""
