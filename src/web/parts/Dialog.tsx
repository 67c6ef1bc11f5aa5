import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";

/** What a dialog is made of. */
interface DialogProps {
  readonly title: string;
  readonly open: boolean;
  /** Absent where it has to be answered. */
  readonly onClose?: () => void;
  readonly children: ComponentChildren;
}

/** A dialog before the page; Escape closes it, if anything does. */
export function Dialog({ title, open, onClose, children }: DialogProps): JSX.Element {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (open && !element.current!.open) element.current!.showModal();
    if (!open && element.current!.open) element.current!.close();
  }, [open]);
  const onCancel = (event: Event) => onClose === undefined && event.preventDefault();
  return (
    <dialog ref={element} aria-label={title} onCancel={onCancel} onClose={() => onClose?.()}>
      {open && (
        <>
          <h2>{title}</h2>
          {children}
        </>
      )}
    </dialog>
  );
}
