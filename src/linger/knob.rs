#[inline(always)]
pub fn k(_: usize, default: f32) -> f32 {
    default
}
