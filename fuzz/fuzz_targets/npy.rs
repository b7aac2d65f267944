//! Any bytes as the two arrays: what is read has as many elements as the file has room for.
#![no_main]

use ndarray::{Ix1, Ix2};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(bank) = auscult::bundle::npy::read::<f32, Ix2>(bytes) {
        assert!(bank.len() * 4 < bytes.len());
    }
    if let Ok(ids) = auscult::bundle::npy::read::<i64, Ix1>(bytes) {
        assert!(ids.len() * 8 < bytes.len());
    }
});
