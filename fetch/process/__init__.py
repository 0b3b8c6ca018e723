"""A daemon as the operating system sees it: its processes, and what they may have."""
