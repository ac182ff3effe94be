"""What somebody else may put in our way: docs/threats.md says which test holds which threat."""
