//! The descriptions are of what is served.
