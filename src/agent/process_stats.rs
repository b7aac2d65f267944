//! The Pi's own figures for the health message, read from the kernel's files.

use std::fs;
use std::path::Path;

/// Resident memory of this process, MB; `None` where the kernel does not say.
pub fn memory_mb() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kb: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some((kb / 1024.0 * 10.0).round() / 10.0)
}

/// Temperature of the processor, degrees Celsius; `None` where there is no sensor.
pub fn cpu_temperature_c() -> Option<f64> {
    let millidegrees: f64 = fs::read_to_string("/sys/class/thermal/thermal_zone0/temp").ok()?.trim().parse().ok()?;
    Some(millidegrees / 1000.0)
}

/// Room on the disk of `dir` that this user may fill, MiB; `None` where the system does not tell.
pub fn disk_free_mb(dir: &Path) -> Option<f64> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    Some((disk.f_bavail as f64 * disk.f_frsize as f64 / (1024.0 * 1024.0)).round())
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_has_memory() {
        assert!(super::memory_mb().is_some_and(|mb| mb > 1.0));
        assert!(super::disk_free_mb(std::path::Path::new("/")).is_some_and(|mb| mb >= 0.0));
    }
}
