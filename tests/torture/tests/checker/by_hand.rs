//! Small histories by hand, each with one violation or with a case that looks like one.
