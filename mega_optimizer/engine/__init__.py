"""Run rules over the services of a repository in a workspace, and apply what they decide."""
