fn main() {
    // Lets the program find libtorch when it is started by itself, not only by cargo.
    if let Ok(lib) = std::env::var("DEP_REWARD_MODEL_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
    }
}
