//! The one integration binary; a file per subject.

mod policy; // policy files: what loads, what is refused with which lines, what a reload does
