//! Hands libtorch's folder on: as an rpath to this package's own tests, examples and benches, and
//! as `DEP_REWARD_MODEL_LIBTORCH_LIB` to the build scripts of crates that depend on this one
//! (an rpath does not travel to a dependent's programs by itself; the README shows the few lines).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    // Set by torch-sys for those that depend on it directly; not on Windows, nor with doc-only.
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
        println!("cargo::metadata=LIBTORCH_LIB={lib}");
        println!("cargo::rustc-env=REWARD_MODEL_LIBTORCH_LIB={lib}");
    }
}
