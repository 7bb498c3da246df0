//! Other people's programs.
