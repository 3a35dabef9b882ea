"""The ``swsgx`` command. One module for each subcommand; what they need is imported when they run."""
