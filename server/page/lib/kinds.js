// Guess the modality of a file for its preview and for the limit of its size. The server decides by
// the file's content.

const BY_ENDING = {
  image: "jpg jpeg png gif webp bmp tif tiff heic heif avif jp2 ppm tga ico",
  audio: "wav flac ogg opus mp3 m4a aac wma aif aiff caf w64 amr",
  video: "mp4 mov mkv webm avi ts mpg mpeg wmv flv m4v",
  point: "ply pcd las laz obj pts xyz off stl glb npz",
  text: "txt",
};
const MODALITY_OF = Object.fromEntries(
  Object.entries(BY_ENDING).flatMap(([modality, endings]) =>
    endings.split(" ").map((ending) => [ending, modality])),
);

/** Return a modality, or null if the name and the type do not show it (for example .npy). */
export function guess(file) {
  const family = file.type.split("/")[0];
  if (["image", "audio", "video"].includes(family)) return family;
  return MODALITY_OF[file.name.toLowerCase().split(".").pop()] ?? null;
}
