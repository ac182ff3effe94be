"""Real processes, real full disks, real power cuts: see docs/durability.md."""
