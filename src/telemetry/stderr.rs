//! placeholder until merged
/// placeholder
pub async fn write_line(line: Vec<u8>) -> std::io::Result<()> {
    let _ = line;
    Ok(())
}
