"""What the room that writes does in each corner.  Made from the mutants that survived."""
