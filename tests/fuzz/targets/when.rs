#![no_main]

#[path = "../properties/when.rs"]
mod property;

// Panics of the interpreter are caught where it is called, so they must not end the process at once.
libfuzzer_sys::fuzz_target!(init: drop(std::panic::take_hook()), |data: &[u8]| property::holds(data));
