//! Finding libraries in made-up folders, and the compiler with its cache. What needs the compiler is skipped, aloud, where
//! there is none, unless ABLATE_REQUIRE_NVRTC says that there must be.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::device::cuda::libraries::{self, Library};
use crate::device::cuda::{argument, compile, cubin_cache, search, symbols};
use crate::device::gpu::{Address, Argument, Element, GpuError, Source};

fn touch(path: &Path) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a writable folder");
    fs::write(path, b"").expect("a writable file");
}

/// An environment of these variables alone.
fn environment(variables: &[(&str, String)]) -> impl Fn(&str) -> Option<OsString> + use<> {
    let variables: Vec<(String, OsString)> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
    move |name| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

fn below<'a>(root: &Path, folders: &'a [PathBuf]) -> Vec<&'a str> {
    folders.iter().filter_map(|folder| folder.strip_prefix(root).ok()?.to_str()).collect()
}

#[test]
fn folders_come_most_specific_first_once_and_only_where_they_exist() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let root = root.path();
    for folder in [
        "own/a",
        "own/b",
        "toolkit/lib64",
        "toolkit/targets/x86_64-linux/lib",
        "venv/lib/python3.11/site-packages/nvidia/cublas/lib",
        "venv/lib/python3.11/site-packages/nvidia/cu12/lib",
        "venv/lib/python3.11/site-packages/nvidia/cu13/lib",
        "venv/lib/python3.11/site-packages/nvidia/cudnn/include",
        "conda/lib",
        "home/.local/lib/python3.12/site-packages/nvidia/cudnn/lib",
    ] {
        fs::create_dir_all(root.join(folder)).expect("a writable folder");
    }
    touch(&root.join("venv/bin/python3"));
    let at = |path: &str| root.join(path).display().to_string();
    let variables = environment(&[
        ("ABLATE_CUDA_PATH", format!("{}:{}:{}", at("own/b"), at("own/a"), at("own/absent"))),
        ("CUDA_HOME", at("toolkit")),
        ("CUDA_PATH", at("toolkit")),
        ("PATH", format!("{}:{}", at("empty"), at("venv/bin"))),
        ("CONDA_PREFIX", at("conda")),
        ("HOME", at("home")),
    ]);
    let folders = search::folders(&variables);
    assert_eq!(
        below(root, &folders),
        [
            "own/b",
            "own/a",
            "toolkit/lib64",
            "toolkit/targets/x86_64-linux/lib",
            "venv/lib/python3.11/site-packages/nvidia/cu13/lib",
            "venv/lib/python3.11/site-packages/nvidia/cu12/lib",
            "venv/lib/python3.11/site-packages/nvidia/cublas/lib",
            "home/.local/lib/python3.12/site-packages/nvidia/cudnn/lib",
            "conda/lib",
        ]
    );
}

#[test]
fn an_empty_environment_names_no_folder_of_a_user() {
    let folders = search::folders(&environment(&[]));
    assert!(folders.iter().all(|folder| folder.starts_with("/usr/local/cuda")), "{folders:?}");
}

#[test]
fn toolkits_without_a_link_are_found_the_newest_first() {
    let root = tempfile::tempdir().expect("a temporary folder");
    for file in ["cuda-12.9/lib64/a", "cuda-13.0/lib64/a", "cuda-12.10/lib64/a", "cuda-samples/a", "cudnn/a"] {
        touch(&root.path().join(file));
    }
    let all = search::toolkits_below(root.path());
    assert_eq!(below(root.path(), &all), ["cuda", "cuda-13.0", "cuda-12.10", "cuda-12.9"]);
}

#[test]
fn the_newest_file_of_the_first_folder_comes_first() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let root = root.path();
    for file in [
        "first/libnvrtc.so",
        "first/libnvrtc.so.12",
        "first/libnvrtc.so.12.8.93",
        "first/libnvrtc.so.9",
        "first/libnvrtc.so.old",
        "first/libnvrtc.alt.so.13",
        "first/libnvrtc-builtins.so.13.2",
        "first/libnvrtc_static.a",
        "second/libnvrtc.so.13",
        "second/libnvrtc.so.12",
    ] {
        touch(&root.join(file));
    }
    let folders = [root.join("first"), root.join("absent"), root.join("second")];
    let all = search::candidates(&folders, "libnvrtc", None);
    assert_eq!(
        below(root, &all),
        [
            "first/libnvrtc.so.12.8.93",
            "first/libnvrtc.so.12",
            "first/libnvrtc.so.9",
            "first/libnvrtc.so",
            "second/libnvrtc.so.13",
            "second/libnvrtc.so.12",
        ]
    );
    let old_driver = search::candidates(&folders, "libnvrtc", Some(12));
    assert!(!below(root, &old_driver).contains(&"second/libnvrtc.so.13"), "a driver of CUDA 12 cannot run CUDA 13");
    assert_eq!(old_driver.len(), all.len() - 1);
}

#[test]
fn a_missing_library_is_an_error_that_says_what_to_do() {
    for found in libraries::look() {
        assert_eq!(found.problem.is_some(), found.remedy.is_some(), "{found:?}");
        assert_eq!(found.problem.is_none(), libraries::load(&[found.library]).is_ok(), "{found:?}");
        if let Some(problem) = found.problem {
            let error = libraries::load(&[found.library]).expect_err("a problem is an error");
            let GpuError::Library(text) = error else { panic!("{error:?}") };
            assert!(text.contains(&problem) && text.contains(found.library.stem()), "{text}");
            let remedy = found.remedy.expect("a remedy for every problem");
            assert!(text.contains(&remedy), "{text}");
        } else {
            assert!(found.version.is_some_and(|version| version.contains('.')), "{}", found.name);
            assert!(found.path.is_none_or(|path| path.exists()), "{}", found.name);
        }
    }
}

#[test]
fn remedies_fit_the_driver() {
    assert_eq!(Library::Nvrtc.how_to_get(Some(12)), "pip install nvidia-cuda-nvrtc-cu12");
    assert_eq!(Library::Nvrtc.how_to_get(Some(13)), "pip install nvidia-cuda-nvrtc");
    assert_eq!(Library::Cudnn.how_to_get(None), "pip install nvidia-cudnn-cu13");
}

#[test]
fn arguments_stand_in_the_first_bytes_of_their_word() {
    assert_eq!(argument::word(Argument::I32(-2)).to_le_bytes()[..4], (-2i32).to_le_bytes());
    assert_eq!(argument::word(Argument::U32(7)), 7);
    assert_eq!(argument::word(Argument::U64(u64::MAX)), u64::MAX);
    assert_eq!(argument::word(Argument::F32(1.5)).to_le_bytes()[..4], 1.5f32.to_le_bytes());
    assert_eq!(argument::word(Argument::F64(-0.1)).to_le_bytes(), (-0.1f64).to_le_bytes());
    assert_eq!(argument::word(Argument::Address(Address(1 << 40))), 1 << 40);
}

#[test]
fn exported_kernels_are_found_by_name() {
    let text =
        "// KERNEL_EXPORT(comment)\nvoid f() {}\nKERNEL_EXPORT(one)\n  KERNEL_EXPORT( two ) KERNEL_EXPORT(three);\n";
    assert_eq!(compile::kernels(text), ["one", "two", "three"]);
}

#[test]
fn the_cache_lies_where_the_user_keeps_caches() {
    let folder = |variables: &[(&str, String)]| cubin_cache::folder(&environment(variables));
    let (xdg, home) = (("XDG_CACHE_HOME", "/x".to_owned()), ("HOME", "/h".to_owned()));
    assert_eq!(folder(&[xdg, home.clone()]), Some("/x/ablate/cubin".into()));
    assert_eq!(folder(&[("XDG_CACHE_HOME", "relative".to_owned()), home]), Some("/h/.cache/ablate/cubin".into()));
    assert_eq!(folder(&[]), None);
}

#[test]
fn damaged_entries_are_no_entries() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let key = cubin_cache::key(&["a", "bc"]);
    assert_ne!(key, cubin_cache::key(&["ab", "c"]));
    assert_eq!(cubin_cache::read(folder.path(), &key), None);
    cubin_cache::write(folder.path(), &key, b"code");
    assert_eq!(cubin_cache::read(folder.path(), &key).as_deref(), Some(b"code".as_slice()));
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 1, "nothing unfinished is left");
    let path = folder.path().join(format!("{key}.cubin"));
    let whole = fs::read(&path).expect("the entry");
    for damaged in [&whole[..whole.len() - 1], &whole[..5], &[], &[whole.as_slice(), b"x"].concat()] {
        fs::write(&path, damaged).expect("a writable file");
        assert_eq!(cubin_cache::read(folder.path(), &key), None);
    }
}

const SCALE: Source = Source {
    name: "scale",
    text: "extern \"C\" __global__ void scale(store_t* x, float by, int n) {\n  int i = blockIdx.x * blockDim.x + threadIdx.x;\n  \
           if (i < n) x[i] = stored(load(x[i]) * by);\n}\nKERNEL_EXPORT(scale)\n",
};

fn has_compiler() -> bool {
    match libraries::load(&[Library::Nvrtc]) {
        Ok(()) => true,
        Err(error) => {
            assert!(std::env::var_os("ABLATE_REQUIRE_NVRTC").is_none(), "ABLATE_REQUIRE_NVRTC is set, but: {error}");
            println!("skipped: {error}");
            false
        }
    }
}

#[test]
fn kernels_compile_once_and_again_when_the_cache_is_damaged() {
    if !has_compiler() {
        return;
    }
    let cache = tempfile::tempdir().expect("a temporary folder");
    let cubin = |element, architecture| compile::cubin(&SCALE, element, architecture, Some(cache.path()));
    let entries = || {
        let entries = fs::read_dir(cache.path()).expect("the cache").flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let first = cubin(Element::F32, "sm_90").expect("a kernel that compiles");
    assert!(first.starts_with(b"\x7fELF") && first.windows(5).any(|bytes| bytes == b"scale"));
    let path = entries().pop().expect("one entry");
    // What the cache holds is what is given: an entry with another code in it shows that nothing was compiled.
    let key = path.file_stem().expect("a name").to_str().expect("a plain name").to_owned();
    cubin_cache::write(cache.path(), &key, b"planted");
    assert_eq!(cubin(Element::F32, "sm_90").expect("from the cache"), b"planted");
    fs::write(&path, b"damaged").expect("a writable file");
    assert_eq!(cubin(Element::F32, "sm_90").expect("compiled anew"), first);
    assert_eq!(cubin_cache::read(cache.path(), &key).expect("mended"), first);
    cubin(Element::Bf16, "sm_90").expect("a kernel that compiles");
    cubin(Element::F32, "sm_80").expect("a kernel that compiles");
    assert_eq!(entries().len(), 3, "element and architecture are parts of the key");
}

#[test]
fn a_cache_that_cannot_be_written_is_no_error() {
    if !has_compiler() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("file");
    touch(&file);
    compile::cubin(&SCALE, Element::F32, "sm_90", Some(&file.join("below"))).expect("a kernel that compiles");
    compile::cubin(&SCALE, Element::F32, "sm_90", None).expect("a kernel that compiles");
}

#[test]
fn what_does_not_compile_is_told_with_its_line() {
    if !has_compiler() {
        return;
    }
    let broken = Source { name: "broken", text: "\n\nint x = nothing;\n" };
    let error = compile::cubin(&broken, Element::F32, "sm_90", None).expect_err("an undefined name");
    let GpuError::Compile { source_name, architecture, log } = error else { panic!("{error:?}") };
    assert_eq!((source_name.as_str(), architecture.as_str()), ("broken", "sm_90"));
    assert!(log.contains("broken.cu(3)") && log.contains("nothing"), "{log}");
    let zero = Source { name: "zero", text: "\0" };
    assert!(matches!(compile::cubin(&zero, Element::F32, "sm_90", None), Err(GpuError::Compile { .. })));
    assert!(matches!(compile::cubin(&SCALE, Element::F32, "sm_1", None), Err(GpuError::Compile { .. })));
}

#[test]
fn the_compiler_tells_registers() {
    if !has_compiler() {
        return;
    }
    let log = compile::resources(&SCALE, Element::Bf16, "sm_90").expect("a kernel that compiles");
    assert!(log.contains("scale") && log.contains("registers"), "{log}");
}

/// The functions of a library that a source file names: `sys::cuInit`, `find("cudnnCreate")`.
fn functions_named(text: &str) -> Vec<&str> {
    let word =
        |rest: &'_ str| rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_').len();
    let named = ["sys::", "find(\""].into_iter().flat_map(|before| text.split(before).skip(1));
    let names = named.map(|rest| &rest[..word(rest)]);
    let others = ["nvrtcResult", "nvrtcProgram", "culib"];
    let is_function = |name: &&str| {
        ["cu", "nvrtc"].iter().any(|start| name.starts_with(start)) && !name.ends_with("_t") && !others.contains(name)
    };
    names.filter(is_function).collect()
}

/// The bindings panic on a symbol that nobody looked up before.
#[test]
fn every_function_in_use_is_looked_up_before() {
    let listed = [&symbols::DRIVER[..], &symbols::NVRTC, &symbols::CUBLASLT, &symbols::CUDNN].concat();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/device/cuda");
    let mut named = BTreeSet::new();
    for path in fs::read_dir(folder).expect("the sources").flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            let text = fs::read_to_string(&path).expect("a source");
            named.extend(functions_named(&text).into_iter().map(str::to_owned));
        }
    }
    assert!(named.len() > 60, "{named:?}");
    // Of a test alone.
    named.remove("cublasLtMatrixLayoutGetAttribute");
    let unlisted: Vec<&String> = named.iter().filter(|name| !listed.contains(&name.as_str())).collect();
    assert!(unlisted.is_empty(), "{unlisted:?} may be missing without a word");
    let unused: Vec<&&str> = listed.iter().filter(|name| !named.contains(**name)).collect();
    assert!(unused.is_empty(), "{unused:?} are asked for and never called");
}
