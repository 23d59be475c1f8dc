"""What each kind of file says. A reader takes text and adds to `Facts`; it opens nothing and runs nothing."""
