"""What must hold between the settings of a repository, one file for each subject."""
