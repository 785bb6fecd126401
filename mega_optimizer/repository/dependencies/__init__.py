"""What a service depends on: the declarations of every kind of manifest, and what locks allow."""
