"""The rewriting code: one module per rule, in the folders of ``rules/``. Never touches the disk."""
