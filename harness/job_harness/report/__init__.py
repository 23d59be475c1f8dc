"""What a run came to, for people and for machines. Functions from values to text; nothing here reads or writes."""
