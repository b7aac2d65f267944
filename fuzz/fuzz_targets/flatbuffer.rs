//! Any bytes as an encoder: loads or is refused; what loads runs or says why not.
#![no_main]

use auscult::encoder::{EncoderConfig, EngineChoice, load};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let config = EncoderConfig { engine: EngineChoice::Tract, library: None };
    if let Ok(mut engine) = load(bytes.into(), &config) {
        let shape = engine.shape();
        let image = vec![0.5; shape.bands * shape.frames];
        if let Ok(embedding) = engine.embed(&image, 0) {
            assert_eq!(embedding.len(), shape.embedding);
        }
    }
});
