// The form of the version that is served now, asked for anew when another version has taken its place.
import { useCallback, useEffect, useState } from "preact/hooks";
import { type Form, loadForm } from "./form";

const LOOK_MILLISECONDS = 20_000;

export interface FormState {
  form: Form | null;
  error: unknown;
  /** What to tell of a version that has changed; empty where none has. */
  notice: string;
  /** Says which version has answered. */
  answeredBy: (version: number) => void;
}

export function useForm(): FormState {
  const [form, setForm] = useState<Form | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [notice, setNotice] = useState("");
  const look = useCallback(
    () =>
      loadForm().then(
        (loaded) => {
          setError(null);
          setForm((before) => {
            if (before?.model.version === loaded.model.version) return before;
            if (before) setNotice(`Version ${loaded.model.version} is served now, in place of ${before.model.version}. The form is that of the new one.`);
            return loaded;
          });
        },
        (refusal) => setError(refusal),
      ),
    [],
  );
  useEffect(() => {
    void look();
    const timer = setInterval(() => document.visibilityState === "visible" && void look(), LOOK_MILLISECONDS);
    return () => clearInterval(timer);
  }, [look]);
  const answeredBy = useCallback((version: number) => void (form?.model.version !== version && look()), [form, look]);
  return { form, error: form ? null : error, notice, answeredBy };
}
