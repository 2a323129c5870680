//! `ablate`: a declarative, reproducible runner for SimCLR ablations.
//!
//! You write down a question as a RON file. It expands to runs; each is looked up by the hash of all that can change it,
//! computed where it is missing, and handed back as an ablation table with its spread over seeds.
//!
//! # The way of the data
//!
//! ```text
//! experiments/batchsize.ron
//!   -> experiment   text -> typed Experiment -> Runs, every field explicit
//!   -> content      Run -> keys of its stages: data -> pretrain -> evaluation
//!   -> store        key -> Hit(record) | Miss(claim)
//!   -> data         CIFAR-10/100, image folder, built-in procedural set -> u8 images, labels, digest
//!   -> views        (image, augmentations, address of the draw) -> two views
//!   -> model        dfdx types -> lowered -> Plan: a static list of operations with shapes
//!   -> executor     reference (dfdx's own tape) | cpu | cuda: forward, NT-Xent, backward, update
//!   -> train        the loop, its metrics, its checkpoint        -> record
//!   -> evaluate     k-NN, linear probe, health, robustness        -> record
//!   -> report       records -> Parquet -> ablation table, statistics, one page of HTML
//! ```
//!
//! # Rows
//!
//! A module imports only from lower rows; `tests/it/tidy.rs` holds the exact table and enforces it.
//!
//! | row | modules |
//! |---|---|
//! | 0 | [`content`] canonical hashing · [`random`] counter-based streams · [`device`] threads, what the processor can do, GPUs |
//! | 1 | [`experiment`] what a file says, what will run, the keys |
//! | 2 | [`record`] what a stage leaves behind · [`history`] what training measured · [`store`] bytes by key · [`data`] data sets |
//! | 3 | [`results`] the records of a run · [`checkpoint`] a training's state as a file · [`views`] one file an augmentation · [`model`] typed models and the Plan |
//! | 4 | [`ops`] one folder an operation · [`explain`] why a stage is stored or not, what differs, what the rest will take |
//! | 5 | [`executor`] what computes a Plan |
//! | 6 | [`train`], [`evaluate`] one visible loop each |
//! | 7 | [`runner`] what to compute next · [`report`] tables and pages from records · [`bench`] how fast, how far from `cpu` · [`verify`] whether a result comes out again |
//! | 8 | [`commands`] one subcommand a file, all printing |
//! | 9 | [`cli`] the command line as typed |
//!
//! # What is deliberately absent
//!
//! - The paper wing (`content`, `experiment`, `record`, `history`, `store`, `results`, `explain`, `report`, `verify`) knows
//!   no tensor.
//! - The numerics wing (`random`, `device`, `data`, `views`, `model`, `ops`, `executor`) knows no experiment file, key of a
//!   run or table. What they share is the vocabulary of a recipe, plain data in [`experiment::recipe`], and [`random`], from
//!   which `report` resamples; `data` also fills in the [`experiment::run::DataFacts`] of a run.
//! - The store knows nothing of SimCLR. A report needs the store alone: no data set, no executor.
//! - Without the feature `compute` only what reads files is left, for the fuzz targets and for other programs: `content`,
//!   `random`, `experiment`, `record`, `store`, `data`, `results` and `checkpoint`.
//! - No order depends on threads, no number on the platform's mathematical library.

#[cfg(feature = "compute")]
pub mod bench;
pub mod checkpoint;
#[cfg(feature = "compute")]
pub mod cli;
#[cfg(feature = "compute")]
pub mod commands;
pub mod content;
pub mod data;
#[cfg(feature = "compute")]
pub mod device;
#[cfg(feature = "compute")]
pub mod evaluate;
#[cfg(feature = "compute")]
pub mod executor;
pub mod experiment;
#[cfg(feature = "compute")]
pub mod explain;
#[cfg(feature = "compute")]
pub mod history;
#[cfg(feature = "compute")]
pub mod model;
#[cfg(feature = "compute")]
pub mod ops;
pub mod random;
pub mod record;
#[cfg(feature = "compute")]
pub mod report;
pub mod results;
#[cfg(feature = "compute")]
pub mod runner;
pub mod store;
#[cfg(feature = "compute")]
pub mod train;
#[cfg(feature = "compute")]
pub mod verify;
#[cfg(feature = "compute")]
pub mod views;
