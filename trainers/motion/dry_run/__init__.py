"""What a command would do and what it would cost, before anything is done."""
