"""What each rule wins on running services: before and after the rewrite, rule by rule."""
