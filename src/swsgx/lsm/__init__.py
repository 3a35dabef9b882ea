"""Security modules that plug into swsgx.linux.security."""
