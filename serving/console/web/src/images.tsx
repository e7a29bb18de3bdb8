// Images that are given by drag and drop, paste or file.
import { useEffect, useId, useState } from "preact/hooks";

export interface GivenImage {
  id: number;
  name: string;
  /** For the page. */
  url: string;
  /** For the request. */
  b64: string;
}

let next = 1;

export async function readImage(file: File): Promise<GivenImage> {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let binary = "";
  for (let start = 0; start < bytes.length; start += 0x8000) {
    binary += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  }
  return { id: next++, name: file.name || "pasted image", url: URL.createObjectURL(file), b64: btoa(binary) };
}

/** A place for images. What is no image is passed over, and told. */
export function ImageDrop({ many, another = false, onImages }: { many: boolean; another?: boolean; onImages: (images: GivenImage[]) => void }) {
  const id = useId();
  const [over, setOver] = useState(false);
  const [told, setTold] = useState("");
  const take = async (list: FileList | null | undefined) => {
    const files = [...(list ?? [])];
    if (!files.length) return;
    const images = files.filter((file) => file.type.startsWith("image/"));
    const taken = many ? images : images.slice(0, 1);
    const notes = files.filter((file) => !images.includes(file)).map((file) => `${file.name} is not an image`);
    if (taken.length < images.length) notes.push("only the first image was taken");
    const given: GivenImage[] = [];
    for (const file of taken) {
      try {
        given.push(await readImage(file));
      } catch {
        notes.push(`${file.name} cannot be read: is it still there?`);
      }
    }
    setTold(notes.join("; "));
    if (given.length) onImages(given);
  };
  useEffect(() => {
    const paste = (event: ClipboardEvent) => {
      if (event.clipboardData?.files.length) {
        event.preventDefault();
        void take(event.clipboardData.files);
      }
    };
    // A browser opens what misses the place, and the page is gone.
    const miss = (event: DragEvent) => event.preventDefault();
    document.addEventListener("paste", paste);
    document.addEventListener("dragover", miss);
    document.addEventListener("drop", miss);
    return () => {
      document.removeEventListener("paste", paste);
      document.removeEventListener("dragover", miss);
      document.removeEventListener("drop", miss);
    };
  });
  return (
    <div
      class={over ? "drop over" : "drop"}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        void take(event.dataTransfer?.files);
      }}
    >
      <input
        id={id}
        type="file"
        accept="image/*"
        multiple={many}
        onChange={(event) => {
          const input = event.currentTarget;
          void take(input.files).then(() => (input.value = ""));
        }}
      />
      <label for={id}>
        <strong>{many ? "Choose images" : another ? "Choose another image" : "Choose an image"}</strong>
        <span class="quiet">, drop {many ? "them" : "it"} here or paste</span>
      </label>
      <p class="warning" role="status">
        {told}
      </p>
    </div>
  );
}
