//! Any bytes as a pickle: an answer or an error, never a panic, quick and small.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(dict) = auscult::bundle::pickle::read_dict(bytes) {
        // An entry takes two references of two bytes at least.
        assert!(dict.len() <= bytes.len());
    }
});
