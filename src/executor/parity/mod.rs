//! Two executors that share no arithmetic give the same numbers: `cpu`, with its own operations on a Plan, and
//! `reference`, with the typed model on dfdx's tape.

mod tests;
