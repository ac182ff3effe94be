"""What libpq does, and nothing else.  Every rule names where libpq has it."""
