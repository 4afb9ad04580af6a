"""The revisions, oldest first; one that was ever released is never edited."""
