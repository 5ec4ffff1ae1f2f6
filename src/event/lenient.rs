//! Reads the members CSS documents from bodies that differ from the documentation, and notes where they do.
