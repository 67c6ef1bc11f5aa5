import { Store } from "../store.ts";

const place = "stellium.key";

/** What the page asks the user for. */
interface KeyQuestion {
  /** Whether a key was given that the server does not take. */
  readonly rejected: boolean;
  readonly answer: (key: string) => void;
}

/** Set while the key is being asked for. */
export const keyQuestion = new Store<KeyQuestion | undefined>(undefined);

let asking: Promise<string> | undefined;

/** The API key of this tab. It is forgotten when the tab is closed. */
export function storedKey(): string | undefined {
  return sessionStorage.getItem(place) ?? undefined;
}

/** Asks for the key, once however many requests need it. */
export function askForKey(): Promise<string> {
  asking ??= new Promise<string>((resolve) => {
    keyQuestion.set({ rejected: storedKey() !== undefined, answer: resolve });
  }).then((key) => {
    sessionStorage.setItem(place, key);
    keyQuestion.set(undefined);
    asking = undefined;
    return key;
  });
  return asking;
}
