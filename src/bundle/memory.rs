//! What reading a bundle took of memory is given back to the system.

/// Gives freed memory back when it is dropped: declare it first, so that it is dropped last.
///
/// glibc keeps freed blocks below its mmap threshold, which grows to 32 MiB with the first large file read, so that an
/// agent would stay as large as the largest bundle that it ever refused. A child process under a memory limit would give
/// everything back too, and would bound the engines, but it needs a second copy of engine and files on the agent's small
/// computer and a way to hand results over. The readers bound what they make instead.
#[must_use]
pub struct TrimOnDrop;

impl Drop for TrimOnDrop {
    fn drop(&mut self) {
        #[cfg(target_env = "gnu")]
        #[allow(unsafe_code)]
        // SAFETY: malloc_trim takes no pointer, and glibc allows it from any thread.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
