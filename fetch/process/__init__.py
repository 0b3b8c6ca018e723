"""A daemon as the operating system sees it: its processes, what they may have, and whether it is ready."""
