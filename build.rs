//! Compiles the protocol of KEDA's external scaler, without a `protoc` on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["proto/externalscaler.proto"], ["proto"])?;
    println!("cargo:rerun-if-changed=proto");
    tonic_prost_build::configure().build_transport(false).compile_fds(files)?;
    Ok(())
}
